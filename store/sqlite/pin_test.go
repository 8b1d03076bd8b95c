package sqlite

import (
	"database/sql"
	"testing"
)

// dropPins makes a schema one of before there were pins.
func dropPins(t *testing.T, conn *sql.Conn) {
	t.Helper()
	for _, table := range []string{"pins", "pin_servers", "pin_lists", "pin_gone"} {
		run(t, conn, "DROP TABLE "+table)
	}
}
