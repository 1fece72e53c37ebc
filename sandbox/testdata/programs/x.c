#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/shm.h>

static int n;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

static void *add(void *p) {
	pthread_mutex_lock(&m);
	n += *(int *)p;
	pthread_mutex_unlock(&m);
	return 0;
}

int main(void) {
	int v[3] = {1, 2, 3};
	pthread_t t[3];
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], 0, add, &v[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], 0);
	if (sem_open("/s", O_CREAT, 0600, 1) == SEM_FAILED || shmget(IPC_PRIVATE, 4096, 0600) < 0)
		return 1;
	printf("threads %d\n", n);
}
