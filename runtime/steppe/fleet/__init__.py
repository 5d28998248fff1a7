"""What carries out the plan? Ray actors (replica, node, controller, gateway) and their driver."""
