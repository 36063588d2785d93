package alert_test
import ("testing";"time";"fmt";"log/slog";"os")
var _ = slog.LevelDebug
var _ = os.Stdout
func TestDbg(t *testing.T) {
	three(t, func(c *trio) {
		c.cut(true, "n1", "n2", "n1", "n3")
		time.Sleep(65 * time.Second)
		c.cut(false, "n1", "n2", "n1", "n3")
		time.Sleep(3 * time.Minute)
		for _, n := range c.nodes { fmt.Println(n.name, n.position(), n.view) }
		now := time.Now()
		c.put(firing("new", now))
		time.Sleep(time.Second)
		fmt.Println("end at", time.Now().Unix())
		c.end()
		time.Sleep(time.Minute)
		for _, d := range c.deliveries() { fmt.Println(d.from, d.status, d.at.Unix(), d.at.Nanosecond()) }
	})
}
