//! Log set-up: stderr or journald, human or JSON (contract stub).
