import concurrent.futures, fcntl, mmap, multiprocessing, os, select, socket, sqlite3, subprocess, tempfile


def square(x):
    return x * x


if __name__ == "__main__":
    out = [subprocess.check_output(["sh", "-c", "echo 42"]).decode().strip()]
    with multiprocessing.Pool(2) as pool:
        out.append(pool.map(square, [1, 2, 3]))
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        out += ["threads", len(list(threads.map(square, range(8))))]
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    client.sendall(b"hello")
    out += ["tcp", peer.recv(9).decode()]
    left, right = socket.socketpair()
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    epoll = select.epoll()
    epoll.register(left)
    epoll.poll(0.01)
    db = sqlite3.connect("/tmp/db")
    db.execute("pragma journal_mode=wal")
    db.execute("create table t(x)")
    db.execute("insert into t values(3)")
    db.commit()
    out += ["sqlite", db.execute("select x from t").fetchone()[0]]
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"ok")
        f.flush()
        fcntl.flock(f, fcntl.LOCK_EX)
        out += ["mmap", mmap.mmap(f.fileno(), 2)[:].decode()]
    os.sched_getaffinity(0)
    os.nice(1)
    os.getrandom(8)
    os.memfd_create("x")
    os.pidfd_open(os.getpid())
    out += ["lock", multiprocessing.Lock().acquire()]
    print(*out)
