// memjs: the tests of its package talk to a server of their own making, so this puts it through its whole interface.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import memjs from 'memjs';

const client = memjs.Client.create(`127.0.0.1:${process.env.MEMCACHED_PORT}`, { retries: 1, timeout: 5 });
after(() => client.close());

const text = ({ value }) => (value === null ? null : value.toString());

test('what is set is found', async () => {
    assert.equal(await client.set('key', 'value', { expires: 600 }), true);
    assert.equal(text(await client.get('key')), 'value');
    assert.equal(text(await client.get('nothing')), null);
});

test('binary values and large ones', async () => {
    for (const value of [Buffer.alloc(0), Buffer.from([0, 255, 13, 10, 128]), Buffer.alloc(900_000, 'x')]) {
        await client.set('bytes', value, {});
        assert.ok(value.equals((await client.get('bytes')).value));
    }
});

test('add and replace look whether there is something', async () => {
    await client.delete('fresh');
    assert.equal(await client.replace('fresh', 'x', {}), false);
    assert.equal(await client.add('fresh', 'one', {}), true);
    assert.equal(await client.add('fresh', 'two', {}), false);
    assert.equal(await client.replace('fresh', 'three', {}), true);
    assert.equal(text(await client.get('fresh')), 'three');
});

test('delete and touch', async () => {
    await client.set('gone', 'x', {});
    assert.equal(await client.touch('gone', 600), true);
    assert.equal(await client.delete('gone'), true);
    assert.equal(await client.delete('gone'), false);
    assert.equal(await client.touch('gone', 600), false);
});

test('numbers', async () => {
    await client.delete('number');
    assert.equal((await client.increment('number', 5, { initial: 10 })).value, 10);
    assert.equal((await client.increment('number', 5, { initial: 10 })).value, 15);
    assert.equal((await client.decrement('number', 20, { initial: 10 })).value, 0);
});

test('append and prepend', async () => {
    await client.set('join', 'b', {});
    assert.equal(await client.append('join', 'c'), true);
    // This version sends the opcode of append.
    assert.equal(await client.prepend('join', 'a'), true);
    assert.equal(text(await client.get('join')), 'bca');
    // What memcached answers there, not stored, is an error to it.
    await assert.rejects(client.append('nothing', 'c'));
});

test('many at once', async () => {
    const keys = Array.from({ length: 2_000 }, (_, n) => `many:${n}`);
    await Promise.all(keys.map((key) => client.set(key, key, {})));
    const values = await Promise.all(keys.map((key) => client.get(key).then(text)));
    assert.deepEqual(values, keys);
});

test('stats and flush', async () => {
    const call = (method, ...words) =>
        new Promise((resolve, reject) => {
            client[method](...words, (error, server, value) => (error ? reject(error) : resolve(value)));
        });
    assert.ok(Number((await call('stats')).curr_items) >= 0);
    await client.flush();
    assert.equal(text(await client.get('key')), null);
});
