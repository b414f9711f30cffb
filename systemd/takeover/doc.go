// Package takeover is how the worker of one release takes the place of another on the same sockets, while both run.
//
// Each worker listens on a socket of its own, RUNTIME/workers/PID.sock; RUNTIME/takeover.sock is a symlink to that of the
// one that serves. A successor connects there and says what it is about to do; the predecessor does its part and answers:
//
//	hello      who I am                             -> welcome, or refused
//	prepare    I have loaded everything             -> prepared: the writer's place is free
//	accepting  I hold the writer's place and accept -> paused: I accept no more, and finish what I have
//	commit     I have been well for a while         (the predecessor may end)
//
// Should the connection end before commit, the predecessor takes everything back: its successor has died. A message is four
// bytes of length, the most significant first, and a JSON object with a type. Fields that are not known are passed over;
// what neighbouring releases say to each other is kept in testdata.
//
// The package knows nothing of what is served: see Role.
package takeover
