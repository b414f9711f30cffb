package tlsbridge

import (
	"fmt"
	"testing"
)

func TestANameThatFailsTakesTheKindsOfChallengeInTurn(t *testing.T) {
	c := challengeKinds{many: 2}
	for attempt := range 6 {
		got := c.of("a.test", 0)
		if got != attempt%2 {
			t.Errorf("attempt %d is of kind %d", attempt, got)
		}
		c.fail("a.test", got)
	}
	if c.of("a.test", 3) != 0 || c.of("b.test", 3) != 1 {
		t.Error("what failed in an earlier process counts for a name that did not fail in this one, and for no other")
	}
}

func TestTheKindThatWorkedIsTheFirstForOthers(t *testing.T) {
	c := challengeKinds{many: 2}
	c.fail("a.test", 0)
	c.succeed("a.test", 1)
	if c.of("a.test", 0) != 1 || c.of("b.test", 0) != 1 {
		t.Errorf("a has %d, b has %d", c.of("a.test", 0), c.of("b.test", 0))
	}
	c.succeed("b.test", 1)
	if c.of("c.test", 0) != 1 {
		t.Error("a success at the first attempt changed it")
	}
	one := &challengeKinds{many: 1}
	one.fail("a.test", 0)
	if one.of("a.test", 5) != 0 {
		t.Error("where there is one kind there is no other")
	}
}

func TestANameDoesNotTakeTheKindAgainByWhichItFailedWhileOthersFoundAnotherThatWorks(t *testing.T) {
	c := challengeKinds{many: 2}
	c.fail("a.test", 0)
	c.fail("c.test", 0)
	c.succeed("a.test", 1)
	if got := c.of("c.test", 0); got != 1 {
		t.Errorf("c takes kind %d, by which it failed", got)
	}
}

func TestTheKindThatWorkedForSeveralAtOnceIsTheFirstForOthers(t *testing.T) {
	c := challengeKinds{many: 2}
	c.fail("a.test", 0)
	c.fail("b.test", 0)
	c.succeed("a.test", 1) // both were under way
	c.succeed("b.test", 1)
	if got := c.of("new.test", 0); got != 1 {
		t.Errorf("new names begin with kind %d, which worked for nobody", got)
	}
}

func TestTheNamesThatFailTakeNoMoreMemoryThanThereIsRoomFor(t *testing.T) {
	c := challengeKinds{many: 2}
	for i := range 3 * maxFailing {
		c.fail(fmt.Sprint(i), 0)
	}
	if len(c.next) > maxFailing {
		t.Errorf("%d names are kept", len(c.next))
	}
}
