package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"cutover/rules"
)

// conditionFlags are what narrows a rule further than host and path.
type conditionFlags struct {
	json                                       string
	methods, headers, cookies, query, clientIP []string
}

func (f *conditionFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.json, "conditions", "", `all conditions as JSON, such as {"methods":["GET"],"cookies":{"staff":"*"}}; {} for none`)
	flags.StringSliceVar(&f.methods, "method", nil, "only requests with one of these methods, such as GET,HEAD")
	flags.StringArrayVar(&f.headers, "header", nil, "only requests with this header, as 'Name: value' or 'Name: *'")
	flags.StringArrayVar(&f.cookies, "cookie", nil, "only requests with this cookie, as NAME=VALUE or NAME=*")
	flags.StringArrayVar(&f.query, "query", nil, "only requests with this query parameter, as NAME=VALUE or NAME=*")
	flags.StringSliceVar(&f.clientIP, "client-ip", nil, "only requests from one of these addresses or ranges, such as 10.0.0.0/8")
}

// put adds the column conditions to row if any of the flags was given.
func (f *conditionFlags) put(cmd *cobra.Command, row map[string]any) error {
	var conditions rules.Conditions
	var err error
	switch whole := cmd.Flags().Changed("conditions"); {
	case whole && f.any():
		err = errors.New("--conditions and single conditions were given")
	case whole:
		conditions, err = parseConditions(f.json)
	case f.any():
		conditions, err = f.parse()
	default:
		return nil
	}
	if err != nil {
		return withHint(&usageError{err}, "run '"+cmd.CommandPath()+" --help' for the conditions there are")
	}
	conditions.Headers = canonicalNames(conditions.Headers)
	text, err := json.Marshal(conditions)
	row["conditions"] = string(text)
	return err
}

func (f *conditionFlags) any() bool {
	return len(f.methods)+len(f.headers)+len(f.cookies)+len(f.query)+len(f.clientIP) > 0
}

func parseConditions(text string) (rules.Conditions, error) {
	var conditions rules.Conditions
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&conditions); err != nil {
		return conditions, fmt.Errorf("--conditions: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if decoder.More() {
		return conditions, errors.New("--conditions: one JSON object is expected")
	}
	return conditions, nil
}

func (f *conditionFlags) parse() (conditions rules.Conditions, err error) {
	conditions.Methods, conditions.ClientIPs = f.methods, f.clientIP
	for i, method := range conditions.Methods {
		conditions.Methods[i] = strings.ToUpper(method)
	}
	conditions.Headers, err = pairs("--header", f.headers, ":")
	if err != nil {
		return conditions, err
	}
	conditions.Cookies, err = pairs("--cookie", f.cookies, "=")
	if err != nil {
		return conditions, err
	}
	conditions.Query, err = pairs("--query", f.query, "=")
	return conditions, err
}

// canonicalNames writes names of headers as net/http does, so that the same conditions are the same text.
func canonicalNames(headers map[string]string) map[string]string {
	canonical := make(map[string]string, len(headers))
	for name, value := range headers {
		canonical[http.CanonicalHeaderKey(name)] = value
	}
	return canonical
}

// pairs splits each text at the first separator.
func pairs(flag string, texts []string, separator string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	values := make(map[string]string, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, separator)
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("%s %q must be a name, %q and a value", flag, text, separator)
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("%s %q: the name is given twice", flag, text)
		}
		values[name] = strings.TrimSpace(value)
	}
	return values, nil
}
