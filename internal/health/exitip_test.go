package health

import (
	"testing"

	"proxyd/internal/testkit"
)

func TestExitIP(t *testing.T) {
	ca := testkit.NewCA(t)
	v := testkit.NewVenue(t, ca)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"ip.example": v.Addr}})
	dial, _ := through(t, proxy.URL())
	for _, c := range []struct {
		name    string
		says    testkit.VenueReply
		want    string
		verdict Verdict
	}{
		{"text", testkit.VenueReply{Body: "203.0.113.7\n"}, "203.0.113.7", OK},
		{"JSON", testkit.VenueReply{Body: `{"at":"12:30:01.5","ip":"2001:db8::7"}`}, "2001:db8::7", OK},
		{"HTML", testkit.VenueReply{Body: "<p>Version 1.2.3, you are 198.51.100.9</p>"}, "198.51.100.9", OK},
		{"nothing of the kind", testkit.VenueReply{Body: "hello"}, "invalid IP", Unknown},
		{"an error", testkit.VenueReply{Status: 403, Body: "203.0.113.7"}, "invalid IP", Blocked},
	} {
		t.Run(c.name, func(t *testing.T) {
			v.Answer(c.says)
			to, err := TargetOf("https://IP.example./")
			if err != nil {
				t.Fatal(err)
			}
			ip, r := ExitIP(t.Context(), dial, Ask{Target: to, URL: "https://ip.example/", Roots: ca.Pool})
			if ip.String() != c.want || r.Verdict != c.verdict {
				t.Errorf("got %v, %s %q", ip, r.Verdict, r.Text)
			}
		})
	}
}
