package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// desk is Certificates that remembers what was asked of it.
type desk struct {
	imports []CertificateImport
	revoked string
	reason  int
}

func (d *desk) List(context.Context) ([]Certificate, error) { return nil, nil }

func (d *desk) Show(_ context.Context, name string) (CertificateDetail, bool, error) {
	return CertificateDetail{Certificate: Certificate{Name: name}}, name == "*.example.com", nil
}

func (d *desk) Retry(_ context.Context, name string) (CertificateDetail, error) {
	return CertificateDetail{}, &Error{Status: http.StatusBadGateway, Message: "no certificate for " + name, Hint: "look at DNS"}
}

func (d *desk) Revoke(_ context.Context, name string, reason int) ([]string, error) {
	d.revoked, d.reason = name, reason
	return []string{name}, nil
}

func (d *desk) Import(_ context.Context, request CertificateImport) (CertificateImported, error) {
	d.imports = append(d.imports, request)
	result := CertificateImported{}
	for _, pair := range request.Pairs {
		result.Placed = append(result.Placed, CertificatePlaced{Where: pair.Where, Name: pair.Where, Stored: true})
	}
	return result, nil
}

func TestCertificatesAreAskedForByName(t *testing.T) {
	d := &desk{}
	client := tester(t, &Server{Certificates: d})
	if list, err := client.Certificates(t.Context()); err != nil || list.Certificates == nil {
		t.Errorf("%+v, %v", list, err)
	}
	if detail, err := client.Certificate(t.Context(), "*.Example.com"); err != nil || detail.Name != "*.example.com" {
		t.Errorf("%+v, %v", detail, err)
	}
	var refused *Error
	if _, err := client.Certificate(t.Context(), "other.example.com"); !errors.As(err, &refused) || refused.Status != http.StatusNotFound || refused.Hint == "" {
		t.Errorf("%v", err)
	}
	if _, err := client.RetryCertificate(t.Context(), "shop.example.com"); !errors.As(err, &refused) || refused.Hint != "look at DNS" {
		t.Errorf("%v", err)
	}
	if revoked, err := client.RevokeCertificate(t.Context(), "shop.example.com", 4); err != nil || len(revoked.Names) != 1 || d.revoked != "shop.example.com" || d.reason != 4 {
		t.Errorf("%+v, %v: %+v", revoked, err, d)
	}
}

func TestNamesOfCertificatesAreTakenInEveryWayOfWritingThem(t *testing.T) {
	d := &desk{}
	client := tester(t, &Server{Certificates: d})
	for asked, want := range map[string]string{
		"Shop.Example.COM.": "shop.example.com", "BÜCHER.example": "xn--bcher-kva.example", "bücher.example.": "xn--bcher-kva.example",
		"*.BÜCHER.example": "*.xn--bcher-kva.example", "Own_Pair": "Own_Pair", "own.pair_2026": "own.pair_2026",
	} {
		if _, err := client.RevokeCertificate(t.Context(), asked, 0); err != nil || d.revoked != want {
			t.Errorf("%s was taken for %s, want %s: %v", asked, d.revoked, want, err)
		}
	}
}

func TestWhereThereAreNoCertificatesItIsSaidSo(t *testing.T) {
	client := tester(t, &Server{})
	var refused *Error
	if _, err := client.Certificates(t.Context()); !errors.As(err, &refused) || refused.Status != http.StatusNotFound || refused.Hint == "" {
		t.Errorf("%v", err)
	}
}

func TestThousandsOfCertificatesAreImportedInSeveralRequests(t *testing.T) {
	d := &desk{}
	client := tester(t, &Server{Certificates: d})
	request := CertificateImport{Accounts: []CAAccount{{Where: "here"}}, DryRun: true}
	for i := range 2000 {
		request.Pairs = append(request.Pairs, CertificatePair{Where: fmt.Sprint(i), Certificate: strings.Repeat("line of sixty-four characters, as they stand in files of PEM ....\n", 60), Key: "key\n"})
	}
	result, err := client.ImportCertificates(t.Context(), request)
	if err != nil || len(result.Placed) != 2000 || result.Placed[1999].Where != "1999" || result.Stored() != 2000 {
		t.Fatalf("%d placed, %v", len(result.Placed), err)
	}
	accounts := 0
	for _, each := range d.imports {
		accounts += len(each.Accounts)
		if !each.DryRun {
			t.Error("a part was no dry run")
		}
	}
	if len(d.imports) < 2 || accounts != 1 {
		t.Errorf("%d requests with %d accounts", len(d.imports), accounts)
	}
}
