//! Signals, shutdown ladder, systemd notification (contract stub).
