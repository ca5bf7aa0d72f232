"""The embedded launcher: rkt's commands over rkt's pod directories, for hosts without rkt (STAGE1-CONTRACT sections 2, 6 and 7)."""

VERSION = "1.30.0"
APPC_VERSION = "0.8.11"
