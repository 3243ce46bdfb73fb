import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.time.Instant;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams: a tumbling count of a minute by key on event time, one thread, exactly_once_v2, no repartition.
 *
 * <p>All else is as it comes: RocksDB with its changelog, the cache of 10 MB, a commit each 100 ms. Prints the same JSON
 * lines as the other programs of the bench (reporting.py). Arguments: bootstrap servers, topic, group, folder, records.
 */
public final class KafkaStreamsWindows {
    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Event {
        public String type;
        public String time;
    }

    private static volatile long seen;
    private static volatile long began;
    private static long ended;

    private static double seconds(long nanos) {
        return nanos / 1e9;
    }

    private static synchronized void tell(String more) {
        System.out.printf(
                Locale.ROOT,
                "{\"at\":%.6f,\"seen\":%d,\"first\":0,\"began\":%.6f,\"ended\":%.6f%s}%n",
                seconds(System.nanoTime()), seen, seconds(began), seconds(ended), more);
        System.out.flush();
    }

    private static Serde<Event> events() {
        ObjectReader reader = new ObjectMapper().readerFor(Event.class);
        return Serdes.serdeFrom(
                (topic, event) -> {
                    throw new UnsupportedOperationException("events are only read");
                },
                (topic, bytes) -> {
                    try {
                        return reader.readValue(bytes);
                    } catch (IOException error) {
                        throw new UncheckedIOException(error);
                    }
                });
    }

    public static void main(String[] arguments) throws Exception {
        String kafka = arguments[0];
        String topic = arguments[1];
        String group = arguments[2];
        long records = Long.parseLong(arguments[4]);

        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, kafka);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put("auto.offset.reset", "earliest");

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(
                        topic,
                        Consumed.with(Serdes.String(), events())
                                // Called once for each record, so it counts them, too.
                                .withTimestampExtractor((record, before) -> {
                                    if (seen == 0) {
                                        began = System.nanoTime();
                                    }
                                    seen++;
                                    return Instant.parse(((Event) record.value()).time).toEpochMilli();
                                }))
                .groupByKey(Grouped.with(Serdes.String(), events()))
                .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofMinutes(1)))
                .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("counts")
                        .withRetention(Duration.ofHours(6)));

        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings);
                Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", kafka))) {
            streams.start();
            // Committed offsets move in the transaction that keeps the counts.
            while (seen < records) {
                Thread.sleep(100);
                tell("");
            }
            while (committed(admin, group) < records) {
                Thread.sleep(20);
            }
            ended = System.nanoTime();
            tell(",\"done\":true,\"handled\":null,\"rows\":" + rows(streams));
            // Until SIGTERM: what a process has cost can't be read once it has ended.
            new CountDownLatch(1).await();
        }
    }

    private static long committed(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream()
                .mapToLong(position -> position == null ? 0 : position.offset())
                .sum();
    }

    private static String rows(KafkaStreams streams) {
        StringBuilder text = new StringBuilder("[");
        var store = streams.store(
                StoreQueryParameters.fromNameAndType("counts", QueryableStoreTypes.<String, Long>windowStore()));
        try (var all = store.all()) {
            while (all.hasNext()) {
                var entry = all.next();
                if (text.length() > 1) {
                    text.append(',');
                }
                text.append('[').append(entry.key.window().start() / 1000).append(",\"").append(entry.key.key());
                text.append("\",").append(entry.value).append(']');
            }
        }
        return text.append(']').toString();
    }
}
