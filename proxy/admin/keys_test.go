package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func keyLine(name, key string) string {
	hash := sha256.Sum256([]byte(key))
	return name + ":" + hex.EncodeToString(hash[:]) + "\n"
}

func keyFile(t *testing.T, content string) *Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.keys")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Keys{Path: path}
}

func TestAKeyLeadsToItsHolder(t *testing.T) {
	keys := keyFile(t, "# who may\n\n"+keyLine("grafana", "secret-1")+keyLine("deploy", "secret-2"))
	for key, want := range map[string]string{"secret-1": "grafana", "secret-2": "deploy"} {
		if got, err := keys.Holder(key); err != nil || got != want {
			t.Errorf("Holder(%q) = %q, %v, want %q", key, got, err, want)
		}
	}
}

func TestAnUnknownKeyIsRefused(t *testing.T) {
	hash := sha256.Sum256([]byte("secret-1"))
	for name, keys := range map[string]*Keys{
		"no keys at all":   nil,
		"no file":          {Path: filepath.Join(t.TempDir(), "none")},
		"empty file":       keyFile(t, ""),
		"other key":        keyFile(t, keyLine("grafana", "secret-2")),
		"hash sent as key": keyFile(t, "grafana:"+hex.EncodeToString(hash[:])),
	} {
		t.Run(name, func(t *testing.T) {
			presented := "secret-1"
			if name == "hash sent as key" {
				presented = hex.EncodeToString(hash[:])
			}
			_, err := keys.Holder(presented)
			var public *Error
			if !errors.As(err, &public) || public.Status != http.StatusUnauthorized || public.Hint == "" {
				t.Errorf("got %v, want a 401 with a hint", err)
			}
		})
	}
}

func TestAKeyThatWasTakenAwayCountsNoMore(t *testing.T) {
	keys := keyFile(t, keyLine("grafana", "secret-1"))
	if _, err := keys.Holder("secret-1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Holder("secret-1"); err == nil {
		t.Error("the key still counts")
	}
}

func TestABadLineInTheKeysIsNamed(t *testing.T) {
	for name, line := range map[string]string{
		"no hash":     "grafana\n",
		"no name":     ":" + strings.Repeat("a", 64) + "\n",
		"short hash":  "grafana:abcd\n",
		"not hex":     "grafana:" + strings.Repeat("z", 64) + "\n",
		"key as such": "grafana:secret-1\n",
	} {
		t.Run(name, func(t *testing.T) {
			keys := keyFile(t, keyLine("deploy", "secret-2")+line)
			err := keys.Check()
			if err == nil || !strings.Contains(err.Error(), "line 2") {
				t.Errorf("Check() = %v, want an error that names line 2", err)
			}
			if _, err := keys.Holder("secret-2"); err == nil {
				t.Error("a key counts although the file is wrong")
			}
			if strings.Contains(err.Error(), "secret-1") {
				t.Error("the error repeats the key")
			}
		})
	}
}
