"""languagegame: a frozen biological network as the core of a policy, pi(s) = D[f(E(s))], and a conversation with it."""
