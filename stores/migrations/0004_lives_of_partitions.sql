-- A partition that an operator lets go back begins a new life, under an id of ours.

ALTER TABLE topic_lives ADD COLUMN kafka_id uuid;
COMMENT ON COLUMN topic_lives.kafka_id IS 'The id in Kafka, where topic_id is one of ours: a partition went back, and new records have old offsets.';
COMMENT ON TABLE topic_lives IS 'A topic that was deleted and created again has another id: a new life, counted up. So has a partition that went back.';
