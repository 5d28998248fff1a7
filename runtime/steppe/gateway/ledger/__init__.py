"""How does a gateway ask the ledger before it serves a request, and show receipts?"""
