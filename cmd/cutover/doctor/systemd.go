package doctor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"cutover/systemd/units"
)

const (
	unitsFolder = "/etc/systemd/system/"
	service     = "cutover.service"
	install     = "sudo cutover units install && sudo systemctl daemon-reload && sudo systemctl restart cutover"
)

// units compares the installed units with those that this program brings.
func (x *examination) units(ctx context.Context) {
	files, err := units.Files(units.Options{})
	if err != nil {
		x.fail("units", err.Error(), "")
		return
	}
	var missing, differing []string
	for _, file := range files {
		text, err := x.read(unitsFolder + file.Name)
		switch {
		case os.IsNotExist(err):
			missing = append(missing, file.Name)
		case err != nil:
			x.unseen("units", err.Error())
			return
		case text != file.Text:
			differing = append(differing, file.Name)
		}
	}
	switch values, err := x.Show(ctx, service); {
	case len(missing) > 0:
		x.fail("units", strings.Join(missing, ", ")+" not in "+unitsFolder, install)
	case len(differing) > 0:
		x.warn("units", strings.Join(differing, ", ")+" differ from what "+x.Version+" brings", install+"; keep changes of your own in drop-ins: systemctl edit cutover")
	case err == nil && values["NeedDaemonReload"] == "yes":
		x.warn("units", "changed on disk, and systemd does not know yet", "sudo systemctl daemon-reload && sudo systemctl restart cutover")
	default:
		x.ok("units", strconv.Itoa(len(files))+" as this release brings them")
	}
}

// sockets looks at both; one of them may be off.
func (x *examination) sockets(ctx context.Context) {
	active := 0
	for _, name := range []string{"http", "https"} {
		unit := "cutover-" + name + ".socket"
		values, err := x.Show(ctx, unit)
		switch {
		case err != nil:
			x.add("socket "+name, Unchecked, err.Error(), "is this a machine that systemd runs? To try Cutover out without: ./run-dev.sh")
		case values["ActiveState"] != "active":
			x.warn("socket "+name, unit+" is "+values["ActiveState"], "unless that is meant: sudo systemctl start "+unit)
		default:
			active++
			x.socket(name, unit, values)
		}
	}
	if active == 0 {
		x.fail("sockets", "neither port is open: nobody is served", "sudo systemctl start cutover-http.socket cutover-https.socket cutover-hold.service cutover")
	}
}

func (x *examination) socket(name, unit string, values map[string]string) {
	check, port := "socket "+name, map[string]string{"http": ":80 ", "https": ":443 "}[name]
	listens := strings.ReplaceAll(values["Listen"], "\n", ", ")
	switch {
	case values["FileDescriptorName"] != name:
		x.fail(check, fmt.Sprintf("FileDescriptorName=%s, and Cutover looks for %s", values["FileDescriptorName"], name), "mend it: systemctl edit "+unit)
	case values["TriggerLimitIntervalUSec"] != "0":
		x.fail(check, "TriggerLimitIntervalSec="+values["TriggerLimitIntervalUSec"]+": many connections at once may close it for good", "write TriggerLimitIntervalSec=0: systemctl edit "+unit)
	case !strings.Contains(values["Listen"], port):
		x.warn(check, "it listens on "+listens+", visitors and the CA use port"+strings.TrimRight(strings.ReplaceAll(port, ":", " "), " "), "unless that is meant: systemctl cat "+unit)
	default:
		x.ok(check, listens)
	}
}

// fewWaiting is how many connections a socket should be able to hold while a process starts.
const fewWaiting = 1024

func (x *examination) backlog(ctx context.Context) {
	text, err := x.read("/proc/sys/net/core/somaxconn")
	if err != nil {
		x.unseen("backlog", err.Error())
		return
	}
	limit, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		x.unseen("backlog", err.Error())
		return
	}
	if limit < fewWaiting {
		x.warn("backlog", fmt.Sprintf("net.core.somaxconn is %d: more connections than that are dropped while a process starts", limit), "sudo sysctl -w net.core.somaxconn=4096, and keep it in /etc/sysctl.d")
		return
	}
	for _, name := range []string{"http", "https"} {
		values, err := x.Show(ctx, "cutover-"+name+".socket")
		if err != nil {
			x.unseen("backlog", err.Error())
			return
		}
		if n, err := strconv.ParseUint(values["Backlog"], 10, 64); err == nil && n < fewWaiting {
			x.warn("backlog", fmt.Sprintf("Backlog=%d of cutover-%s.socket is small", n, name), "remove that line: systemctl cat cutover-"+name+".socket")
			return
		}
	}
	x.ok("backlog", fmt.Sprintf("at least %d connections may wait, net.core.somaxconn is %d", fewWaiting, limit))
}

func (x *examination) service(ctx context.Context) {
	values, err := x.Show(ctx, service)
	if err != nil {
		x.unseen("service", err.Error())
		return
	}
	edit := ", then sudo systemctl daemon-reload and restart: systemctl edit cutover"
	switch {
	case values["LoadState"] != "loaded":
		x.fail("service", service+" is "+values["LoadState"], "scripts/install.sh")
	case values["NonBlocking"] != "yes":
		x.fail("service", "NonBlocking=no: each start makes the sockets block under the process that runs", "write NonBlocking=yes into [Service]"+edit)
	case values["StartLimitIntervalUSec"] != "0":
		x.fail("service", "StartLimitIntervalSec="+values["StartLimitIntervalUSec"]+": a few failed starts close the sockets for good", "write StartLimitIntervalSec=0 into [Unit]"+edit)
	case values["ActiveState"] != "active":
		x.fail("service", service+" is "+values["ActiveState"]+" ("+values["Result"]+")", "sudo systemctl start cutover; journalctl -u cutover -n 20")
	case values["NRestarts"] != "0":
		x.warn("service", "systemd has restarted it "+values["NRestarts"]+" times since it was started", "journalctl -u cutover")
	default:
		x.ok("service", "active, NonBlocking=yes, no start limit")
	}
}

// hook looks at what runs the DNS hook, if there is one.
func (x *examination) hook(ctx context.Context) {
	if !x.DNSHook {
		return
	}
	values, err := x.Show(ctx, "cutover-dns.socket")
	switch {
	case err != nil:
		x.unseen("DNS hook", err.Error())
	case values["ActiveState"] != "active":
		x.fail("DNS hook", "cutover-dns.socket is "+values["ActiveState"]+": no certificate is issued or renewed", "sudo systemctl start cutover-dns.socket")
	default:
		x.ok("DNS hook", "cutover-dns.socket waits for it")
	}
}

func (x *examination) hold(ctx context.Context) {
	values, err := x.Show(ctx, "cutover-hold.service")
	switch {
	case err != nil:
		x.unseen("hold unit", err.Error())
	case values["ActiveState"] != "active":
		x.fail("hold unit", "cutover-hold.service is "+values["ActiveState"]+": a connection may start a release that crashes again and again", "sudo systemctl start cutover-hold.service")
	default:
		x.ok("hold unit", "active")
	}
}
