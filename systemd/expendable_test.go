package systemd

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestAnExpendableProcessCountsAsHalfTheMemoryUntilThatIsTakenBack(t *testing.T) {
	score := func() int {
		text, err := os.ReadFile(oomScore)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := score()
	takeBack, err := MakeExpendable()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := score(), min(before+500, 1000); got != want {
		t.Errorf("its score is %d, not %d", got, want)
	}
	if err := takeBack(); err != nil {
		t.Fatal(err)
	}
	if got := score(); got != before {
		t.Errorf("its score is %d in the end, and was %d", got, before)
	}
}
