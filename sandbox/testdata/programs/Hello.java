import java.nio.file.*;
import java.security.MessageDigest;
import java.util.concurrent.*;

public class Hello {
    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        Callable<Integer> two = () -> 2;
        int sum = 0;
        for (Future<Integer> f : pool.invokeAll(java.util.Collections.nCopies(4, two))) sum += f.get();
        pool.shutdown();
        Path p = Files.writeString(Path.of("/tmp/java"), "text");
        // Digests come from the providers of the security settings.
        int length = MessageDigest.getInstance("SHA-256").digest(Files.readAllBytes(p)).length;
        System.out.println("sum " + sum + " digest " + length);
    }
}
