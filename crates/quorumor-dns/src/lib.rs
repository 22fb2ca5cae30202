//! Services and nodes by DNS: SRV, A, AAAA and TXT, over UDP and TCP.
