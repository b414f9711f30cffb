package tlsbridge

import (
	"context"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// DNSUpdate is a DNS server that takes signed updates (RFC 2136, RFC 8945): names are proved by DNS-01 there, so that neither
// their DNS nor their traffic has to lead here.
type DNSUpdate struct {
	Server    string // host:port of the primary server of the zones
	Key       string // name of the TSIG key
	Algorithm string // such as hmac-sha256
	Secret    string // of the key, in base64
}

const (
	updateTime = 10 * time.Second
	tsigFudge  = 300 // seconds that clocks may differ by (RFC 8945 §10)
	recordTTL  = time.Minute
)

func (d *DNSUpdate) solver(logger *zap.Logger) acmez.Solver {
	return dnsSolver{&certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{DNSProvider: d, TTL: recordTTL, Resolvers: []string{d.Server}, Logger: logger}}}
}

// AppendRecords implements libdns.RecordAppender.
func (d *DNSUpdate) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, d.update(ctx, zone, records, (*dns.Msg).Insert)
}

// DeleteRecords implements libdns.RecordDeleter.
func (d *DNSUpdate) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, d.update(ctx, zone, records, (*dns.Msg).Remove)
}

func (d *DNSUpdate) update(ctx context.Context, zone string, records []libdns.Record, change func(*dns.Msg, []dns.RR)) error {
	message := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	var rows []dns.RR
	for _, record := range records {
		rr := record.RR()
		header := dns.RR_Header{Name: dns.Fqdn(libdns.AbsoluteName(rr.Name, zone)), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(rr.TTL / time.Second)}
		rows = append(rows, &dns.TXT{Hdr: header, Txt: []string{rr.Data}})
	}
	change(message, rows)
	key, algorithm := dns.Fqdn(d.Key), dns.Fqdn(d.Algorithm)
	message.SetTsig(key, algorithm, tsigFudge, time.Now().Unix())
	client := &dns.Client{Net: "tcp", Timeout: updateTime, TsigSecret: map[string]string{key: d.Secret}}
	answer, _, err := client.ExchangeContext(ctx, message, d.Server)
	if err != nil {
		return fmt.Errorf("update %s at %s: %w", zone, d.Server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("update %s: %s refuses it: %s", zone, d.Server, dns.RcodeToString[answer.Rcode])
	}
	return nil
}
