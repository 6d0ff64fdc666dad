#!/bin/sh
# Prints the path of a Python that LM Desk runs on (3.11 to 3.13), or says how to get one.
set -u
found=""
for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
    [ -n "$name" ] || continue
    version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case "$version" in
        3.11 | 3.12 | 3.13) exec "$name" -c 'import sys; print(sys.executable)' ;;
    esac
    found="$found $name is $version;"
done
if [ -n "$found" ]; then
    echo "LM Desk needs Python 3.11, 3.12 or 3.13; here${found%;}." >&2
else
    echo "LM Desk needs Python 3.11, 3.12 or 3.13, and there is no Python here." >&2
fi
echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13;" \
    "Windows and others: python.org), or name it: make run PYTHON=/path/to/python3.12" >&2
exit 1
