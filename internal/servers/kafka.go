package servers

import "os"

// KafkaSASL returns the host:port of a Kafka broker that wants TLS and SASL, and the file with the authority that signed
// its certificate. PLAIN knows the user lockstep with the password lockstep; users of SCRAM are made through the address
// of [Kafka].
func KafkaSASL(t TB) (address, authority string) {
	t.Helper()
	Kafka(t)
	return kafkaExtra(t, "LOCKSTEP_TEST_KAFKA_SASL"), kafkaExtra(t, "LOCKSTEP_TEST_KAFKA_AUTHORITY")
}

// KafkaLibs returns the folder with the jars of Kafka's own programs.
func KafkaLibs(t TB) string {
	t.Helper()
	Kafka(t)
	return kafkaExtra(t, "LOCKSTEP_TEST_KAFKA_LIBS")
}

// kafkaExtra returns what only scripts/services sets; an address of somebody's own has no such part.
func kafkaExtra(t TB, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		missing(t, variable, "kafka")
	}
	return value
}
