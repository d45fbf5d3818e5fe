package conformance

// Promise is one of the promises that Lockstep makes to its users, as package core's documentation has them.
type Promise struct {
	// Number is from 1 to 8.
	Number int `json:"number"`
	// Name is what it is called in tables.
	Name string `json:"name"`
	// Sentence is the promise.
	Sentence string `json:"sentence"`
}

const (
	promiseAtomic = 1 + iota
	promiseDelivered
	promiseOrdered
	promisePoison
	promiseOutage
	promiseKept
	promiseCrash
	promiseWaits
)

// Promises returns the eight promises, in order.
func Promises() []Promise {
	return []Promise{
		{promiseAtomic, "Atomic", "an event exists if and only if the transaction that enqueued it committed, savepoints included"},
		{promiseDelivered, "At least once", "an event is removed only after the broker confirmed that it stored it"},
		{promiseOrdered, "Ordered per key", "the first occurrences of a key's events arrive in enqueue order"},
		{promisePoison, "One bad event hurts nobody else", "a failing event holds back its own key, never another key"},
		{promiseOutage, "An outage costs nothing but time", "while broker or database is away no attempt is counted, nothing is buried, and delivery resumes by itself within seconds of their return"},
		{promiseKept, "Nothing is thrown away silently", "an event leaves the outbox by delivery or by an operator's decision"},
		{promiseCrash, "Crash anywhere", "kill -9 of application, relay, broker or database breaks none of the others; a graceful stop sends no duplicates"},
		{promiseWaits, "Nothing waits for the relay", "no transaction, row lock or snapshot is held while publishing"},
	}
}

// promisesOf says of which promises a check is a part. A check that is not here enforces a rule between adapter and
// engine, on which all of them rest.
var promisesOf = map[string][]int{
	"atomic-commit":    {promiseAtomic},
	"atomic-rollback":  {promiseAtomic},
	"atomic-savepoint": {promiseAtomic},
	"delayed-atomic":   {promiseAtomic},

	"acknowledge-both": {promiseDelivered},
	"nil-is-stored":    {promiseDelivered},
	"ended-context":    {promiseDelivered},
	"large-batch":      {promiseDelivered},
	"arguments-let-go": {promiseDelivered},
	"silent-broker":    {promiseDelivered},
	"broker-outage":    {promiseDelivered, promiseOutage},
	"broker-cut":       {promiseDelivered, promiseCrash},

	"enqueue-order":           {promiseOrdered},
	"fetch-requested":         {promiseOrdered},
	"fetch-not-due":           {promiseOrdered},
	"fetch-snapshot":          {promiseOrdered},
	"fetch-generation":        {promiseOrdered, promiseCrash},
	"gaps-open":               {promiseOrdered},
	"gaps-filled":             {promiseOrdered},
	"gaps-later-transactions": {promiseOrdered},
	"promote-order":           {promiseOrdered},
	"lock-keys":               {promiseOrdered},
	"key-order":               {promiseOrdered},
	"keys-in-a-call":          {promiseOrdered},
	"keys-with-a-hole":        {promiseOrdered},
	"key-hash":                {promiseOrdered},
	"ping":                    {promiseOutage},
	"ping-silence":            {promiseOutage},
	"keys-behind-a-poison":    {promiseOrdered, promisePoison},
	"concurrent-calls":        {promiseDelivered, promiseOrdered},
	"several-topics":          {promiseDelivered},
	"broker-restart":          {promiseDelivered, promiseCrash},

	"fetch-blocked": {promisePoison},
	"bury-blocks":   {promisePoison},
	"batch-results": {promisePoison},

	"poison-permanent":   {promisePoison},
	"poisons-in-a-call":  {promiseDelivered, promisePoison},
	"results-by-message": {promiseDelivered, promisePoison},

	"database-outage": {promiseOutage},
	"database-cut":    {promiseCrash},

	"bury-moves":          {promiseKept},
	"dead-retry":          {promiseKept},
	"dead-drop":           {promiseKept},
	"unblock":             {promiseKept},
	"position-not-reused": {promiseKept},

	"bury-late":           {promiseKept},
	"archive-acknowledge": {promiseKept},
	"replay-keeps":        {promiseKept},
	"purge-archive":       {promiseKept},
	"purge-dropped":       {promiseKept},
	"suspect-mark":        {promisePoison},
	"lease-unclean":       {promisePoison},

	"fail-once":         {promiseCrash},
	"bury-again":        {promiseCrash},
	"acknowledge-again": {promiseCrash},
	"lease-take-once":   {promiseCrash},
	"lease-expires":     {promiseCrash},

	"pair-atomic":              {promiseAtomic},
	"pair-delayed":             {promiseAtomic, promiseOrdered},
	"pair-crash-before-commit": {promiseAtomic, promiseCrash},
	"pair-lost-commit-answer":  {promiseAtomic, promiseCrash},
	"pair-uncertain-answers":   {promiseDelivered, promiseOrdered},
	"pair-slow-broker":         {promiseDelivered, promiseOutage},
	"pair-nothing-waits":       {promiseWaits},
	"pair-relay-killed":        {promiseDelivered, promiseOrdered, promiseCrash},
	"pair-graceful-stop":       {promiseOrdered, promiseCrash},
	"pair-broker-outage":       {promiseDelivered, promiseOutage},
	"pair-broker-flapping":     {promiseDelivered, promiseOrdered, promiseOutage},
	"pair-broker-silent":       {promiseDelivered, promiseOutage},
	"pair-database-outage":     {promiseOutage, promiseCrash},
	"pair-connections-cut":     {promiseDelivered, promiseOrdered, promiseCrash},
	"pair-database-restart":    {promiseOutage, promiseCrash},
	"pair-broker-restart":      {promiseOutage, promiseCrash},
	"pair-hot-key":             {promiseOrdered},
	"pair-many-keys":           {promiseOrdered},
	"pair-refusals":            {promiseOrdered, promisePoison},
	"pair-takeover":            {promiseOrdered, promiseCrash},
	"pair-takeover-overlap":    {promiseOrdered, promiseCrash},
	"pair-late-commit":         {promiseOrdered, promiseWaits},
	"pair-one-bad-key":         {promisePoison},
	"pair-dead-letter":         {promisePoison, promiseKept},
	"pair-dead-retry":          {promiseOrdered, promiseKept},
	"pair-dead-drop":           {promiseKept},
	"pair-poison":              {promisePoison, promiseKept},

	"session-holds-nothing":    {promiseWaits},
	"session-waits-for-nobody": {promiseWaits},
}

// indispensable are the checks without which a promise is not proven, whatever else passed: those that do the harm that the
// promise is about. Without a way to break and to heal, nobody knows what an outage costs. A check that is pointless (see
// DialectFixture.NoServer) is not missed, and one that every fixture has is never missing, unless it was left out.
var indispensable = map[int][]string{
	promiseAtomic:    {"pair-atomic", "pair-crash-before-commit", "pair-lost-commit-answer"},
	promiseDelivered: {"pair-broker-outage", "broker-outage"},
	promiseOrdered:   {"pair-hot-key", "pair-late-commit", "gaps-open"},
	promisePoison:    {"pair-one-bad-key", "pair-poison", "poison-permanent"},
	promiseOutage:    {"pair-broker-outage", "pair-database-outage", "broker-outage", "database-outage"},
	promiseKept:      {"pair-dead-letter", "pair-poison"},
	promiseCrash: {"pair-relay-killed", "pair-crash-before-commit", "pair-database-restart", "pair-broker-restart",
		"database-cut", "broker-cut", "broker-restart"},
	promiseWaits: {"pair-nothing-waits", "pair-late-commit", "session-waits-for-nobody"},
}
