package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// errDeclined is the answer no.
var errDeclined = errors.New("nothing was done")

// confirm says what a command will do, and asks. Where nobody can be asked it refuses; --yes answers beforehand.
func confirm(cmd *cobra.Command, yes bool, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if yes {
		return nil
	}
	in := cmd.InOrStdin()
	if file, ok := in.(*os.File); ok && !isatty.IsTerminal(file.Fd()) {
		return &usageError{fmt.Errorf("this would %s: nobody is there to be asked, so say --yes", what)}
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "This will %s. Go on? [y/N] ", what); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

func yesFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("yes", "y", false, "do it without asking")
}
