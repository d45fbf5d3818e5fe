package kafka

// murmur2 is the hash by which Kafka's Java client spreads keys: MurmurHash2 of Austin Appleby, of 32 bits, with the Java
// client's seed. kafka-go has the same one for a key in a Message, which would have to be made for each.
func murmur2(key string) uint32 {
	const (
		seed  = uint32(0x9747b28c)
		m     = uint32(0x5bd1e995)
		shift = 24
	)
	h := seed ^ uint32(len(key)) //nolint:gosec // keys are short
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> shift
		k *= m
		h *= m
		h ^= k
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
