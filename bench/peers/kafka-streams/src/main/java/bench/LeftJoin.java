package bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;

/**
 * Predictions left join actuals on their key, within a window, with stores in RocksDB; the joined record is the
 * prediction with the actual and its timestamp. Runs until it is told to stop (SIGTERM).
 *
 * <p>Arguments: a file of Streams properties; the topics of predictions, actuals and joined records; the days of the
 * window and the minutes of its grace period. Prints "first" once the first record has come in.
 */
public final class LeftJoin {
    private static final ObjectMapper JSON = new ObjectMapper();

    private boolean begun;

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        try (InputStream file = new FileInputStream(arguments[0])) {
            properties.load(file);
        }
        StreamsBuilder builder = new StreamsBuilder();
        JoinWindows window =
                JoinWindows.ofTimeDifferenceAndGrace(
                        Duration.ofDays(Long.parseLong(arguments[4])), Duration.ofMinutes(Long.parseLong(arguments[5])));
        new LeftJoin().describe(builder, arguments[1], arguments[2], arguments[3], window);
        run(new KafkaStreams(builder.build(properties), properties));
    }

    private void describe(StreamsBuilder builder, String predictions, String actuals, String joined, JoinWindows window) {
        Serde<String> key = Serdes.String();
        Serde<JsonNode> value = Serdes.serdeFrom((topic, node) -> written(node), (topic, bytes) -> read(bytes));
        KStream<String, JsonNode> predicted = builder.stream(predictions, Consumed.with(key, value));
        KStream<String, JsonNode> actual = builder.stream(actuals, Consumed.with(key, value));
        predicted
                .peek((id, node) -> tellTheFirst())
                .leftJoin(actual, LeftJoin::joined, window, StreamJoined.with(key, value, value))
                .to(joined, Produced.with(key, value));
    }

    /** Called by the one thread that there is. */
    private void tellTheFirst() {
        if (!begun) {
            begun = true;
            System.out.println("first");
        }
    }

    private static JsonNode joined(JsonNode prediction, JsonNode actual) {
        ObjectNode joined = JSON.createObjectNode();
        joined.setAll((ObjectNode) prediction);
        if (actual != null) {
            joined.set("actual", actual.get("actual"));
            joined.set("actualTimestamp", actual.get("timestamp"));
        }
        return joined;
    }

    private static JsonNode read(byte[] bytes) {
        try {
            return bytes == null ? null : JSON.readTree(bytes);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static byte[] written(JsonNode node) {
        try {
            return node == null ? null : JSON.writeValueAsBytes(node);
        } catch (JsonProcessingException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static void run(KafkaStreams streams) throws InterruptedException {
        CountDownLatch ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(1);
                    return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(30));
            ended.countDown();
        }));
        streams.start();
        ended.await();
    }
}
