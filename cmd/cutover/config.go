package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"cutover/tlsbridge"
)

const defaultConfigFile = "/etc/cutover/cutover.toml"

// Config is what does not change while the program runs. What operators decide about traffic is in rules.db.
type Config struct {
	StateDir       string
	RuntimeDir     string
	LogFormat      string
	LogLevel       string
	AccessLog      string
	AccessSample   float64
	TrustedProxies []netip.Prefix
	ErrorPages     string
	UpstreamCA     string
	CertificateDir string
	TargetDir      string
	DigitalOcean   DigitalOceanConfig
	AdminKeys      string
	DrainTimeout   time.Duration
	RequestDrain   time.Duration
	TunnelDrain    time.Duration
	Probation      time.Duration
	HistoryChanges int
	HistoryDays    int
	ACME           ACMEConfig
	V1TLS          string
	ProxyProtocol  ProxyProtocolConfig
	Limits         LimitsConfig

	values []configValue // what 'cutover config' prints
}

// ACMEConfig says where certificates come from.
type ACMEConfig struct {
	Issuer     string
	Directory  string
	Root       string
	Profile    string
	Email      string
	AccountKey string
	Limits     tlsbridge.Limits
	InFlight   int
	Preflight  string // on or off
	Addresses  []netip.Addr
	DNS        DNSConfig
}

// DNSConfig says how names are proved by the DNS; without a server or a command they are not.
type DNSConfig struct {
	Command   string // an absolute path
	Socket    string // of what runs it
	Timeout   time.Duration
	Resolvers []string // host:port
	Server    string
	Key       string
	Algorithm string
	Secret    string // a file
}

// DigitalOceanConfig says by which account droplets are found; without a token there is none.
type DigitalOceanConfig struct {
	TokenFile string
	URL       string
}

// ProxyProtocolConfig says which load balancers tell whose connections they bring.
type ProxyProtocolConfig struct {
	Trusted       []netip.Prefix
	WithoutHeader string // withoutHeaderRefuse or withoutHeaderAccept
}

const (
	withoutHeaderRefuse = "refuse"
	withoutHeaderAccept = "accept"
)

// configValue is a setting's value and where it came from.
type configValue struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// loadConfig merges flags, environment, file and defaults. A file that was named must exist; the default one may
// be missing.
func loadConfig(file string, flags map[string]string, getenv func(string) string, read func(string) ([]byte, error)) (Config, error) {
	name := cmp.Or(file, getenv("CUTOVER_CONFIG"))
	optional := name == ""
	name = cmp.Or(name, defaultConfigFile)
	fromFile, err := readConfigFile(name, optional, read)
	if err != nil {
		return Config{}, err
	}
	var c Config
	for _, s := range settings() {
		value, source := s.resolve(flags, getenv, fromFile, name)
		if err := s.set(&c, value); err != nil {
			return Config{}, withHint(fmt.Errorf("%s: %s: %w", source, s.key, err), "run 'cutover config' for every value and where it comes from")
		}
		c.values = append(c.values, configValue{s.key, value, source})
	}
	return c, nil
}

func (s setting) resolve(flags map[string]string, getenv func(string) string, fromFile map[string]string, name string) (value, source string) {
	if value, ok := flags[s.key]; ok {
		return value, "flag --" + s.flag()
	}
	if value := getenv(s.env()); value != "" {
		return value, "environment " + s.env()
	}
	if s.systemd != "" && getenv(s.systemd) != "" {
		// systemd lists several folders with colons; ours has one
		value, _, _ := strings.Cut(getenv(s.systemd), ":")
		return value, "systemd " + s.systemd
	}
	if value, ok := fromFile[s.key]; ok {
		return value, name
	}
	return s.initial, "default"
}

func readConfigFile(name string, optional bool, read func(string) ([]byte, error)) (map[string]string, error) {
	data, err := read(name)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, withHint(fmt.Errorf("cannot read the configuration: %w", err), "check the path and its mode, or leave --config out")
	}
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", name, err), "the file is TOML: key = \"value\" lines below [section] headings")
	}
	values := map[string]string{}
	if err := flatten(values, "", tree); err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", name, err), "run 'cutover config' in another folder for the keys there are, or 'cutover config --help'")
	}
	return values, nil
}

// flatten turns TOML tables into keys joined by dots, and refuses keys that do not exist.
func flatten(values map[string]string, prefix string, tree map[string]any) error {
	for key, value := range tree {
		key = prefix + key
		if table, ok := value.(map[string]any); ok {
			if err := flatten(values, key+".", table); err != nil {
				return err
			}
			continue
		}
		if _, ok := findSetting(key); !ok {
			return fmt.Errorf("there is no setting %q", key)
		}
		values[key] = plain(value)
	}
	return nil
}

func plain(value any) string {
	list, ok := value.([]any)
	if !ok {
		return fmt.Sprint(value)
	}
	parts := make([]string, len(list))
	for i, part := range list {
		parts[i] = fmt.Sprint(part)
	}
	return strings.Join(parts, ",")
}

// settingFlag is a flag that puts its value into the configuration.
type settingFlag struct {
	env *environment
	key string
}

func (f settingFlag) Set(value string) error { f.env.flags[f.key] = value; return nil }
func (f settingFlag) Type() string           { return "string" }
func (f settingFlag) String() string {
	if s, ok := findSetting(f.key); ok {
		return s.initial
	}
	return ""
}

// addSettingFlags gives a verb a flag for every setting that is not a global flag already.
func addSettingFlags(cmd *cobra.Command, env *environment) {
	for _, s := range settings() {
		if !slices.Contains([]string{"state_dir", "runtime_dir"}, s.key) {
			cmd.Flags().Var(settingFlag{env: env, key: s.key}, s.flag(), s.doc)
		}
	}
}
