"""The bridge against a broker that a test scripts packet by packet, and a real Kafka."""
