package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"cutover/scripts/e2e/edge/attack"
)

// ordersSeen is what the CA was asked for during the flood of handshakes.
type ordersSeen struct {
	Strangers map[string]int `json:"strangers"` // for names that no rule knows
	Known     []orderedNames `json:"known"`     // one for each way in which the CA fails
}

// orderedNames are the names of one way to fail.
type orderedNames struct {
	Mode   string         `json:"mode"`
	Names  int            `json:"names"`
	Steps  int            `json:"steps"` // of the back-off, that the time has room for
	Orders map[string]int `json:"orders"`
}

// knownNames is how many names that the rules know are asked for, for each way to fail.
const knownNames = 30

// modes are the ways in which the CA fails, with what the table says of them.
func modes() []struct{ name, says string } {
	return []struct{ name, says string }{
		{caUp, "while their validation fails"}, {caRefusing, "while the CA answers 500 (asked again within 5 s is one)"}, {caSilent, "while the CA is silent"},
	}
}

// namesFor are the known names of a way to fail; all have rules.
func namesFor(mode string) (names []string) {
	for i := range knownNames {
		names = append(names, fmt.Sprintf("%s-%d.known.test", mode, i))
	}
	return names
}

// stepsIn is how many attempts the back-off allows in a time at most: at once, after 1, 10 and 100 minutes, each a fifth
// less at most.
func stepsIn(lasting time.Duration) int {
	steps, at := 1, time.Duration(0)
	for _, step := range []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute} {
		if at += step * 8 / 10; lasting >= at {
			steps++
		}
	}
	return steps
}

// flood sends a third of the handshakes while the CA fails in each way.
func (in *inside) flood(ctx context.Context, t trial) (sum attack.Result, seen *ordersSeen, err error) {
	sum.Answers = map[string]int{}
	var began []time.Time
	seen = &ordersSeen{Strangers: map[string]int{}}
	third := t
	third.Total /= len(modes())
	third.Lasts /= time.Duration(len(modes()))
	for _, mode := range modes() {
		if err := setMode(ctx, mode.name); err != nil {
			return sum, nil, err
		}
		began = append(began, time.Now())
		in.step("%s: %d handshakes %s", t.Attack, third.Total, mode.says)
		result, err := in.attack(ctx, third, namesFor(mode.name))
		if err != nil {
			return sum, nil, err
		}
		seen.Known = append(seen.Known, orderedNames{Mode: mode.name, Names: knownNames, Orders: map[string]int{}})
		add(&sum, result)
	}
	err = errors.Join(in.seen(ctx, seen), setMode(ctx, caUp))
	for i := range seen.Known {
		seen.Known[i].Steps = stepsIn(time.Since(began[i]))
	}
	return sum, seen, err
}

// add sums up what three attacks in a row came to.
func add(sum *attack.Result, r attack.Result) {
	sum.Opened += r.Opened
	sum.Refused += r.Refused
	sum.Cut += r.Cut
	sum.Sent += r.Sent
	sum.Lasted += r.Lasted
	sum.CPU += r.CPU
	sum.Most, sum.Half, sum.Longest = max(sum.Most, r.Most), max(sum.Half, r.Half), max(sum.Longest, r.Longest)
	for answer, n := range r.Answers {
		sum.Answers[answer] += n
	}
}

// seen reads the orders from the CA.
func (in *inside) seen(ctx context.Context, seen *ordersSeen) error {
	text, err := control(ctx, http.MethodGet, "/orders")
	if err != nil {
		return err
	}
	orders := map[string]int{}
	if err := json.Unmarshal(text, &orders); err != nil {
		return err
	}
	delete(orders, loadHost)
	for _, known := range seen.Known {
		maps.Copy(known.Orders, orders)
		maps.DeleteFunc(known.Orders, func(name string, _ int) bool { return !strings.HasPrefix(name, known.Mode+"-") })
	}
	maps.DeleteFunc(orders, func(name string, _ int) bool { return strings.HasSuffix(name, ".known.test") })
	seen.Strangers = orders
	return nil
}

// setMode changes how the CA fails.
func setMode(ctx context.Context, mode string) error {
	_, err := control(ctx, http.MethodPost, "/mode/"+mode)
	return err
}

func control(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+controlAddress+path, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(answer.Body)
	return text, errors.Join(err, answer.Body.Close())
}
