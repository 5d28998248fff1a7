"""Who carries out the plan? Ray actors: replica, node, controller; and their driver."""
