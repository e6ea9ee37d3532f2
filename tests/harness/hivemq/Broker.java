import com.hivemq.configuration.service.InternalConfigurations;
import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Path;

/** HiveMQ CE with conf, data and extensions below the directory that is the one argument. */
final class Broker {
    public static void main(String[] arguments) {
        Path home = Path.of(arguments[0]);
        // Otherwise HiveMQ makes 520 MB of files before the first message: 4 MB for each of 2 x 64 buckets.
        InternalConfigurations.PERSISTENCE_BUCKET_COUNT.set(4);
        InternalConfigurations.PAYLOAD_PERSISTENCE_BUCKET_COUNT.set(4);
        EmbeddedHiveMQ.builder()
                .withConfigurationFolder(home.resolve("conf"))
                .withDataFolder(home.resolve("data"))
                .withExtensionsFolder(home.resolve("extensions"))
                .build()
                .start()
                .join();
    }
}
