"""When should the battery charge? A day ahead it yields 2.9 to 7.0 % more tokens (simulated).

Measured by `bench/battery_day.py` on the 70B fleet, with the weather known ahead, beside a battery
that follows its own rule: 2.9 % on the windy day and 7.0 % on the cloudy one.
"""
