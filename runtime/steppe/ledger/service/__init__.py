"""How do the gateways and the books of a run reach the ledger, and customers their receipts?"""
