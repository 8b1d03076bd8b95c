package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
)

func auditMask() *cobra.Command {
	return &cobra.Command{
		Use:   "mask",
		Short: "Print what stands in the log for a value that a policy masks",
		Long: `Reads a value as JSON, a text in double quotes, and prints what stands for it in the log
where a policy masks it: so its owner finds the calls that had it. It needs the key of
this installation, keys/mask.key. The value is no argument, since others see those.`,
		Example: `  echo '"ann@example.com"' | openleash audit mask`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error {
				v, err := readValue(cmd.InOrStdin())
				if err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), a.maskKey.Text(v))
				}
				return err
			})
		},
	}
}

// maxValue is how long a value may be: no longer one is in the log.
const maxValue = 11 << 20

// readValue reads one value as strictly as arguments are read. Errors do not quote it.
func readValue(r io.Reader) (action.Value, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxValue+1))
	if err != nil {
		return action.Value{}, fmt.Errorf("reading the value: %w", err)
	}
	v, err := action.Parse(text, action.Limits{Bytes: maxValue})
	if err != nil {
		return action.Value{}, fmt.Errorf(`reading the value: want JSON of at most %d bytes, a text in double quotes ("ann@example.com")`, maxValue)
	}
	return v, nil
}
