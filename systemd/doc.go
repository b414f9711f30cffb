// Package systemd is what Cutover and systemd say to each other: the listening sockets that systemd hands over, by
// name, and what the process tells back: ready, stopping, how it does, that it is alive.
//
// It knows nothing of what is served. The unit files themselves are in package systemd/units.
package systemd
