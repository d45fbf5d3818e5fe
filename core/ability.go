package core

// Ability returns what outer, or something that it wraps, can do beyond the minimum: the one place where optional
// interfaces are looked for. A wrapper of a W has a method Unwrap() W.
func Ability[T, W any](outer W) (able T, ok bool) {
	for {
		if able, ok = any(outer).(T); ok {
			return able, true
		}
		wrapper, wraps := any(outer).(interface{ Unwrap() W })
		if !wraps {
			return able, false
		}
		outer = wrapper.Unwrap()
	}
}
