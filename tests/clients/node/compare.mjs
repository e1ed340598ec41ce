// Calls a client's methods twice, on a connection to the server itself and on one through Tidegate, and compares what comes back.

import assert from 'node:assert/strict';

/// Errors are compared by their text.
async function outcome(call) {
    try {
        return { value: await call() };
    } catch (error) {
        return { error: String(error.message ?? error) };
    }
}

/// Each step is a function of a client; all are taken in order, first directly and then through the proxy, from empty databases.
export async function compare(direct, proxied, steps) {
    const outcomes = [];
    for (const client of [direct, proxied]) {
        await empty(direct);
        const all = [];
        for (const step of steps) all.push(await outcome(() => step(client)));
        outcomes.push(all);
    }
    steps.forEach((step, index) => {
        assert.deepEqual(outcomes[1][index], outcomes[0][index], `through the proxy: ${step}`);
    });
}

/// The direct connection empties the server that both have.
let empty = async () => {};
export function emptyWith(how) {
    empty = how;
}
