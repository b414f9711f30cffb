package system

import (
	"strings"
	"testing"
)

// The commands are those of docs/operations.md.
func TestTheAdminAPIOnTCPIsThereWhenAskedForAndWantsAKey(t *testing.T) {
	m := install(t)
	if got := m.Run("ss -Hltn | grep -c :9180 || true"); got != "0" {
		t.Errorf("port 9180 is open before anybody asked for it")
	}
	key := m.Run(`key=$(openssl rand -hex 32)
echo "grafana:$(printf %s "$key" | sha256sum | cut -d' ' -f1)" | tee -a /etc/cutover/admin.keys >/dev/null
chgrp cutover /etc/cutover/admin.keys && chmod 0640 /etc/cutover/admin.keys
cutover units install --admin >/dev/null && systemctl daemon-reload && systemctl restart cutover
echo "$key"`)
	if got := m.Run(`curl -sS --max-time 5 -H "Authorization: Bearer ` + key + `" http://127.0.0.1:9180/metrics`); !strings.Contains(got, "cutover_requests_total") && !strings.Contains(got, "cutover_rules") {
		t.Errorf("with the key: %.200s", got)
	}
	for line, want := range map[string]string{
		"curl -s -o /dev/null -w '%{http_code}' --max-time 5 http://127.0.0.1:9180/metrics":                                "401",
		"curl -s -o /dev/null -w '%{http_code}' --max-time 5 -H 'Authorization: Bearer x' http://127.0.0.1:9180/v1/status": "401",
		"curl -s -o /dev/null -w '%{http_code}' --max-time 5 http://127.0.0.1:9180/healthz":                                "200",
	} {
		if got := m.Run(line); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}
