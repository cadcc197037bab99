package broker

// How long a call of STS waits after an attempt.
var (
	Backoff = backoff
	Wait    = wait
)

// Routes names every route of the public listener.
func Routes() []string {
	var routes []string
	for _, rt := range table {
		routes = append(routes, rt.method+" "+rt.path)
	}
	return routes
}
