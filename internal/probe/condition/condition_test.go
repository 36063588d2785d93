package condition_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/condition"
)

func TestEval(t *testing.T) {
	left := 72 * time.Hour
	v := &condition.Values{Connected: true, Status: 200, ResponseTime: 250 * time.Millisecond, IP: "192.0.2.1", CertExpiry: &left, DNSRcode: "NOERROR",
		Body: []byte(`{"name":"Ann","n":3,"list":[1,2,{"x":"y"}],"empty":"","when":"a==b"}`)}
	f := func(line string, want bool) {
		t.Helper()
		c, err := condition.Parse(line)
		require.NoError(t, err, line)
		r := c.Eval(v)
		require.Equal(t, want, r.Passed, "%s found %s", line, r.Found)
	}
	f("[STATUS] == 200", true)
	f("[STATUS]!=200", false)
	f("[STATUS] < 300", true)
	f("200 == [STATUS]", true)
	f("[STATUS] == any(200, 201)", true)
	f("[STATUS] != any(200, 201)", false)
	f("[RESPONSE_TIME] < 300", true)
	f("[RESPONSE_TIME] < 1s", true)
	f("[RESPONSE_TIME] <= 0.2", false)
	f("[IP] == pat(192.0.*)", true)
	f("[IP] != pat(10.*)", true)
	f("[CERTIFICATE_EXPIRATION] > 48h", true)
	f("[CERTIFICATE_EXPIRATION] > 30d", false)
	f("[CONNECTED] == true", true)
	f("[DNS_RCODE] == NOERROR", true)
	f("[BODY].name == Ann", true)
	f("[BODY].name == 'Ann'", true)
	f("[BODY].when == \"a==b\"", true)
	f("[BODY].name == any(pat(B*), pat(A*))", true)
	f("[BODY].n >= 3", true)
	f("[BODY].list[2].x == y", true)
	f("len([BODY].list) == 3", true)
	f("len([BODY].name) == 3", true)
	f("has([BODY].nope) == false", true)
	f("[BODY].nope == 1", false)
	f("[BODY].nope != 1", true)
	f("[BODY] == pat(*Ann*)", true)
	f("[BODY].n == [BODY].list[1]", false)
	f("degraded: [STATUS] == 500", false)
}

func TestFaults(t *testing.T) {
	for _, s := range []string{"", "[STATUS]", "[NOPE] == 1", "[STATUS] ==", "1 == 1", "[STATUS].x == 1", "len([STATUS]) == 1", "pat(a) == [STATUS]", "[STATUS] < pat(2*)", "[BODY]x == 1", "len([BODY] == 1"} {
		_, err := condition.Parse(s)
		require.Error(t, err, s)
	}
	c, err := condition.Parse("degraded: [RESPONSE_TIME] < 3")
	require.NoError(t, err)
	require.Equal(t, condition.Degraded, c.Severity)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"[STATUS] == 200", "len([BODY].a[0]) >= any(1,pat(*))", "degraded: has([BODY].x) == true", "[BODY].#.@this == 1"} {
		f.Add(s, []byte(`{"a":[1,2],"b":"c"}`))
	}
	f.Fuzz(func(t *testing.T, line string, body []byte) {
		c, err := condition.Parse(line)
		if err != nil {
			return
		}
		v := &condition.Values{Status: 200, Body: body}
		if a, b := c.Eval(v), c.Eval(v); a != b {
			t.Fatalf("%q gave %v, then %v", line, a, b)
		}
	})
}
