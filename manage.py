#!/usr/bin/env python3
"""Django's command line: `manage.py help` lists what the project adds."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mmproject.settings")
    from mmproject.errors import UserError

    try:
        if sys.argv[1:] in ([], ["help"], ["-h"], ["--help"]):
            from mmproject.cli import list_of_commands

            print(list_of_commands())
            return
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)  # before a command has begun; afterwards it is its own business
    except UserError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
