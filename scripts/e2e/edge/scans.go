package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// finding is what a scanner has to say that is above LOW.
type finding struct {
	Scanner  string `json:"scanner"`
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Says     string `json:"says"`
}

// scans is what the scanners said.
type scans struct {
	Ran      []string      `json:"ran"` // with their versions
	Low      int           `json:"low"` // findings that are LOW
	Findings []finding     `json:"findings"`
	Took     time.Duration `json:"took"`
}

// chosen are findings that are by choice, with the reason. Keys are the scanner and its id.
func chosen() map[string]string {
	return map[string]string{
		"testssl.sh engine_problem":  "it is about the scanner's own OpenSSL",
		"testssl.sh cert_revocation": "the certificate is a test CA's; Let's Encrypt's name a CRL",
		"testssl.sh secure_renego":   "there is no renegotiation at all, and the scanner's OpenSSL 3 cannot ask for it; sslscan judges it",
	}
}

// scan runs sslscan and testssl.sh on the https port; in the short measurement without the latter, which takes five minutes.
func (in *inside) scan(ctx context.Context, m *measured) error {
	began := time.Now()
	m.Scans = &scans{}
	if err := in.sslscan(ctx, m.Scans); err != nil {
		return fmt.Errorf("sslscan: %w", err)
	}
	var err error
	if !in.short {
		err = in.testssl(ctx, m.Scans)
	}
	m.Scans.Took = time.Since(began)
	if err != nil {
		return fmt.Errorf("testssl.sh: %w", err)
	}
	return nil
}

// sslscanReport is what is judged of sslscan's XML.
type sslscanReport struct {
	Version string `xml:"version,attr"`
	Test    struct {
		Protocols []struct {
			Type    string `xml:"type,attr"`
			Version string `xml:"version,attr"`
			Enabled int    `xml:"enabled,attr"`
		} `xml:"protocol"`
		Ciphers []struct {
			Protocol string `xml:"sslversion,attr"`
			Name     string `xml:"cipher,attr"`
			Strength string `xml:"strength,attr"`
		} `xml:"cipher"`
		Compression struct {
			Supported int `xml:"supported,attr"`
		} `xml:"compression"`
		Renegotiation struct {
			Supported int `xml:"supported,attr"`
			Secure    int `xml:"secure,attr"`
		} `xml:"renegotiation"`
		Heartbleed []heartbleed `xml:"heartbleed"`
	} `xml:"ssltest"`
}

type heartbleed struct {
	Vulnerable int `xml:"vulnerable,attr"`
}

func (in *inside) sslscan(ctx context.Context, s *scans) error {
	command := exec.CommandContext(ctx, filepath.Join(in.others, "sslscan/usr/bin/sslscan"), "--no-colour", "--xml=-", "--sni-name="+loadHost, secureAddress)
	output, err := command.Output()
	if err != nil {
		return err
	}
	var report sslscanReport
	if err := xml.Unmarshal(output, &report); err != nil {
		return err
	}
	if len(report.Test.Ciphers) == 0 {
		return fmt.Errorf("it found no cipher: %.200s", output)
	}
	s.Ran = append(s.Ran, "sslscan "+report.Version)
	s.Findings = append(s.Findings, report.findings()...)
	return nil
}

// findings rates what sslscan tells, which gives no grades itself.
func (r *sslscanReport) findings() (list []finding) {
	add := func(id, severity, format string, arguments ...any) {
		list = append(list, finding{"sslscan", id, severity, fmt.Sprintf(format, arguments...)})
	}
	for _, p := range r.Test.Protocols {
		if p.Enabled != 0 && (p.Type == "ssl" || p.Version < "1.2") {
			add(p.Type+p.Version, "HIGH", "%s %s is enabled", p.Type, p.Version)
		}
	}
	for _, c := range r.Test.Ciphers {
		if !slices.Contains([]string{"strong", "acceptable"}, c.Strength) {
			add(c.Name, "MEDIUM", "%s in %s is %s", c.Name, c.Protocol, c.Strength)
		}
	}
	if r.Test.Compression.Supported != 0 {
		add("compression", "HIGH", "TLS compression is supported")
	}
	if r.Test.Renegotiation.Supported != 0 && r.Test.Renegotiation.Secure == 0 {
		add("renegotiation", "HIGH", "insecure renegotiation is supported")
	}
	if slices.ContainsFunc(r.Test.Heartbleed, func(h heartbleed) bool { return h.Vulnerable != 0 }) {
		add("heartbleed", "CRITICAL", "Heartbleed")
	}
	return list
}

const testsslOutput = "/tmp/edge-testssl.json"

// testssl runs testssl.sh.
func (in *inside) testssl(ctx context.Context, s *scans) error {
	if err := os.Symlink(filepath.Join(in.others, "testssl/etc/testssl"), "/etc/testssl"); err != nil && !os.IsExist(err) {
		return err
	}
	arguments := []string{
		"--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", "--add-ca", issuerFile,
		"--openssl", "/usr/bin/openssl", "--jsonfile", testsslOutput,
	}
	path, err := withoutDNS()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(in.others, "testssl/usr/bin/testssl"), append(arguments, loadHost+":443")...)
	command.Dir, command.Env = "/tmp", append(os.Environ(), "PATH="+path)
	said, runErr := command.CombinedOutput() // its exit status counts findings
	text, err := os.ReadFile(testsslOutput)
	if err != nil {
		return fmt.Errorf("%w: %w: %.500s", err, runErr, said)
	}
	low, list, err := testsslFindings(text)
	if err != nil {
		return fmt.Errorf("%w; it said: %.1000s", err, said)
	}
	s.Ran, s.Low = append(s.Ran, "testssl.sh 3.0"), s.Low+low
	s.Findings = append(s.Findings, list...)
	return nil
}

// withoutDNS returns a PATH with a program that resolves nothing: testssl.sh wants one to be there, and is told not to ask.
func withoutDNS() (path string, err error) {
	const folder = "/tmp/edge-programs"
	err = errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(folder+"/nslookup", []byte("#!/bin/sh\nexit 1\n"), 0o755)) //nolint:gosec // in the box
	return folder + ":" + os.Getenv("PATH"), err
}

// testsslFindings reads what is LOW, and what is above.
func testsslFindings(text []byte) (low int, list []finding, err error) {
	var all []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &all); err != nil {
		return 0, nil, err
	}
	for _, f := range all {
		switch f.Severity {
		case "OK", "INFO", "DEBUG":
		case "LOW":
			low++
		default:
			list = append(list, finding{"testssl.sh", f.ID, f.Severity, f.Finding})
		}
	}
	if len(all) < 20 {
		return low, list, fmt.Errorf("it found %d things only", len(all))
	}
	return low, list, nil
}

// conformance is what h2spec said.
type conformance struct {
	Cases   int              `json:"cases"`
	Failed  []conformanceRow `json:"failed"`
	Skipped []conformanceRow `json:"skipped"`
}

// conformanceRow is a case that failed, or that could not be tried.
type conformanceRow struct {
	Section string `json:"section"`
	Case    string `json:"case"`
	Says    string `json:"says"`
}

// explained are cases of h2spec that fail for a reason. Keys are their sections and texts.
func explained() map[string]string {
	const answered = "net/http answers 400, which RFC 9113 §8.1.1 allows before a stream is reset; nothing is forwarded"
	return map[string]string{
		"http2/4.2 Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE":                          "h2spec takes the limit for 16 KB, whatever the server says; net/http allows frames of 1 MB",
		"http2/6.5.3 Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                            "net/http ends a connection whose SETTINGS name a value twice: no client does, and floods may",
		"http2/8.1.2.2 Sends a HEADERS frame that contains the connection-specific header field":                       answered,
		"http2/8.1.2.2 Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": answered,
	}
}

const h2specOutput = "/tmp/edge-h2spec.xml"

// conform runs h2spec.
func (in *inside) conform(ctx context.Context, m *measured) error {
	command := exec.CommandContext(ctx, filepath.Join(in.others, "h2spec"), "--strict", "--tls", "--insecure", "--host", loadHost, "--port", "443",
		"--path", "/echo", "--timeout", "3", "--junit-report", h2specOutput)
	said, runErr := command.CombinedOutput() // its exit status says that something failed
	text, err := os.ReadFile(h2specOutput)
	if err != nil {
		return fmt.Errorf("%w: %w: %.500s", err, runErr, said)
	}
	m.H2spec, err = readConformance(text)
	return err
}

// junit is what is judged of h2spec's report.
type junit struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Name    string `xml:"name,attr"`
		Cases   []struct {
			Package string    `xml:"package,attr"`
			Name    string    `xml:"classname,attr"`
			Failure string    `xml:"failure"`
			Error   string    `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func readConformance(text []byte) (*conformance, error) {
	var report junit
	if err := xml.Unmarshal(text, &report); err != nil {
		return nil, err
	}
	c := &conformance{}
	for _, suite := range report.Suites {
		for _, each := range suite.Cases {
			c.Cases++
			if each.Skipped != nil {
				c.Skipped = append(c.Skipped, conformanceRow{each.Package, each.Name, "it was skipped"})
			}
			if says := strings.Join(strings.Fields(each.Failure+each.Error), " "); says != "" {
				c.Failed = append(c.Failed, conformanceRow{each.Package, each.Name, says})
			}
		}
	}
	if c.Cases == 0 {
		return nil, fmt.Errorf("it tested nothing: %.300s", text)
	}
	return c, nil
}

// exposure asks systemd how much the unit's sandbox leaves open.
func (in *inside) exposure(ctx context.Context, m *measured) error {
	output, err := exec.CommandContext(ctx, "systemd-analyze", "security", "--no-pager", unit).Output()
	if err != nil {
		return err
	}
	found := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindSubmatch(output)
	if found == nil {
		return fmt.Errorf("it names no level: %.300s", bytes.TrimSpace(output))
	}
	level, err := strconv.ParseFloat(string(found[1]), 64)
	m.Exposure = &level
	return err
}
