package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"cutover/proxy/admin"
)

// becomeOwner makes sure that this process is the owner of the state directory before it touches what is in there,
// so that each file keeps the owner that the daemon needs. Root becomes the owner, for good; anybody else must be
// the owner already.
func becomeOwner(directory string) error {
	uid, gid, err := ownerOf(directory)
	if err != nil {
		return err
	}
	switch os.Geteuid() {
	case uid:
		return nil
	case 0:
		return dropTo(uid, gid)
	default:
		return withHint(fmt.Errorf("the rules in %s belong to %s", directory, admin.UserName(uid)),
			"run the command with sudo, or as that user: sudo -u "+userOrID(uid)+" cutover …")
	}
}

func ownerOf(directory string) (uid, gid int, err error) {
	info, err := os.Stat(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, withHint(fmt.Errorf("there is no state directory %s, and no daemon runs", directory),
			"start the daemon, name another directory with --state-dir, or make it: install -d -m 700 -o cutover -g cutover "+directory)
	}
	if err != nil {
		return 0, 0, withHint(fmt.Errorf("cannot look at the state directory: %w", err), "run the command with sudo")
	}
	if !info.IsDir() {
		return 0, 0, withHint(fmt.Errorf("%s is not a directory", directory), "name the state directory with --state-dir")
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("the system does not tell who owns %s", directory)
	}
	return int(stat.Uid), int(stat.Gid), nil
}

// dropTo gives up root on all threads of the process; there is no way back.
func dropTo(uid, gid int) error {
	err := syscall.Setgroups([]int{gid})
	if err == nil {
		err = syscall.Setresgid(gid, gid, gid)
	}
	if err == nil {
		err = syscall.Setresuid(uid, uid, uid)
	}
	if err != nil {
		return withHint(fmt.Errorf("cannot become %s, the owner of the rules: %w", admin.UserName(uid), err),
			"run the command as that user: sudo -u "+userOrID(uid)+" cutover …")
	}
	return nil
}

// userOrID returns what sudo -u understands.
func userOrID(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "'#" + strconv.Itoa(uid) + "'"
}
