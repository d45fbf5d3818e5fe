// Package interop holds the tests that others understand what we send: libraries that are not ours decode it. It is a
// module of its own, so that nobody who uses Lockstep downloads them.
package interop
