"""What must outlast a crash: shares, secrets and logins, sealed and durable before anybody hears of them."""
