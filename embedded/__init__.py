"""The default stack from wheels: a real Kafka, PostgreSQL and Valkey. Only cli/, bench/ and tests import it."""
