#!/usr/bin/env bash
# The engine on Windows: builds engine_test.c with MinGW's GCC and runs it under Wine, which takes
# too long for .ci/run. Needs pytest and fastmlp; as root it installs what else is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! { command -v x86_64-w64-mingw32-gcc && command -v wine; } >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
        gcc-mingw-w64-x86-64-win32 wine wine64
fi
FASTMLP_REQUIRE_TARGETS=windows python -m pytest -q --full tests/test_engine_c.py -k windows
