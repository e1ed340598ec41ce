// node-redis: its package has no tests. Over RESP2 and RESP3, with the answers that the server itself gives.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createClient, defineScript } from 'redis';
import { compare, emptyWith } from './compare.mjs';

const ports = [Number(process.env.REDIS_DIRECT), Number(process.env.REDIS_PORT)];
const opened = [];

const scripts = {
    twice: defineScript({
        NUMBER_OF_KEYS: 1,
        SCRIPT: 'redis.call("incr", KEYS[1]) return redis.call("incr", KEYS[1])',
        parseCommand(parser, key) {
            parser.pushKey(key);
        },
        transformReply: (reply) => reply,
    }),
};

async function open(port, more = {}) {
    const client = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false }, scripts, ...more });
    client.on('error', () => {});
    await client.connect();
    opened.push(client);
    return client;
}

after(() => opened.forEach((client) => client.isOpen && client.destroy()));
emptyWith((client) => client.flushAll());

const steps = {
    strings: [
        (c) => c.set('s', 'value'),
        (c) => c.get('s'),
        (c) => c.set('s', 'x', { condition: 'NX' }),
        (c) => c.set('s', 'y', { GET: true }),
        (c) => c.append('s', 'more'),
        (c) => c.incrBy('n', 41),
        (c) => c.incrByFloat('f', 1.25),
        (c) => c.getRange('s', 0, 2),
        (c) => c.getDel('s'),
        (c) => c.get('nothing'),
        (c) => c.setBit('b', 7, 1),
        (c) => c.bitCount('b'),
        (c) => c.mSet({ a: '1', b: '2' }),
        (c) => c.mSetNX([['a', '1'], ['d', '2']]),
        (c) => c.mGet(['a', 'nothing', 'b']),
        (c) => c.exists(['a', 'b']),
        (c) => c.del(['a', 'nothing']),
        (c) => c.rename('b', 'c'),
        (c) => c.copy('c', 'd'),
        (c) => c.expireAt('c', 4000000000),
        (c) => c.expireTime('c'),
        (c) => c.type('c'),
        (c) => c.objectEncoding('c'),
        (c) => c.dbSize(),
    ],
    collections: [
        (c) => c.hSet('h', { one: '1', two: '2' }),
        (c) => c.hGetAll('h'),
        (c) => c.hmGet('h', ['one', 'nothing']),
        (c) => c.hIncrByFloat('h', 'one', 1.5),
        (c) => c.hScan('h', '0'),
        (c) => c.rPush('l', ['a', 'b', 'c']),
        (c) => c.lRange('l', 0, -1),
        (c) => c.lMove('l', 'm', 'LEFT', 'RIGHT'),
        (c) => c.lPosCount('l', 'c', 0),
        (c) => c.sAdd('set', ['1', '2', '3']),
        (c) => c.sAdd('other', ['2', '3', '4']),
        (c) => c.sInter(['set', 'other']),
        (c) => c.sUnionStore('all', ['set', 'other']),
        (c) => c.sMembers('all'),
        (c) => c.smIsMember('set', ['1', '9']),
        (c) => c.zAdd('z', [{ score: 1, value: 'one' }, { score: 2.5, value: 'two' }]),
        (c) => c.zRangeWithScores('z', 0, -1),
        (c) => c.zScore('z', 'two'),
        (c) => c.zmScore('z', ['one', 'nothing']),
        (c) => c.zIncrBy('z', 2, 'one'),
        (c) => c.zPopMax('z'),
        (c) => c.zUnionWithScores(['z', 'z']),
        (c) => c.geoAdd('g', { longitude: 13.361389, latitude: 38.115556, member: 'Palermo' }),
        (c) => c.geoPos('g', 'Palermo'),
        (c) => c.pfAdd('p', ['a', 'b']),
        (c) => c.pfCount('p'),
        (c) => c.xAdd('x', '1-1', { field: 'value' }),
        (c) => c.xRange('x', '-', '+'),
        (c) => c.xRead({ key: 'x', id: '0' }),
        (c) => c.xGroupCreate('x', 'g', '0'),
        (c) => c.xReadGroup('g', 'me', { key: 'x', id: '>' }),
        (c) => c.xAck('x', 'g', '1-1'),
        (c) => c.xInfoGroups('x'),
        (c) => c.lPush('set', 'x'),
    ],
    'transactions and scripts': [
        (c) => c.multi().set('a', '1').incr('a').get('a').exec(),
        (c) => c.multi().set('a', 'word').incr('a').execAsPipeline().catch((error) => String(error)),
        (c) => c.multi().hSet('mh', 'f', 'v').hGetAll('mh').exec(),
        (c) => c.eval('return {KEYS[1], ARGV[1]}', { keys: ['k'], arguments: ['v'] }),
        (c) => c.twice('counter'),
        (c) => c.twice('counter'),
        (c) => c.scriptLoad('return 7'),
        (c) => c.scriptExists(['ffffffffffffffffffffffffffffffffffffffff']),
        (c) => c.sendCommand(['GET']),
        (c) => c.sendCommand(['ECHO', 'hello']),
        (c) => c.ping(),
        (c) => c.ping('hello'),
        (c) => c.clientSetName('somebody'),
        (c) => c.clientGetName(),
        (c) => c.configGet('databases'),
    ],
};

for (const RESP of [2, 3]) {
    for (const [name, list] of Object.entries(steps)) {
        test(`${name}, RESP${RESP}`, async () => {
            await compare(await open(ports[0], { RESP }), await open(ports[1], { RESP }), list);
        });
    }

    test(`a watched key that changes, RESP${RESP}`, async () => {
        const [client, other] = [await open(ports[1], { RESP }), await open(ports[1], { RESP })];
        await client.watch('watched');
        await other.set('watched', 'changed');
        await assert.rejects(client.multi().set('watched', 'mine').exec());
        assert.equal(await client.get('watched'), 'changed');
    });

    test(`SCAN finds every key once, RESP${RESP}`, async () => {
        const client = await open(ports[1], { RESP });
        await (await open(ports[0])).flushAll();
        await client.mSet(Array.from({ length: 1_000 }, (_, n) => [`scan:${n}`, String(n)]));
        const found = [];
        for await (const keys of client.scanIterator({ MATCH: 'scan:*', COUNT: 50 })) found.push(...[keys].flat());
        assert.equal(new Set(found).size, 1_000);
    });

    test(`blocking and messages, RESP${RESP}`, async () => {
        const [client, waiter] = [await open(ports[1], { RESP }), await open(ports[1], { RESP })];
        const popped = waiter.blPop('queue', 10);
        await client.rPush('queue', 'element');
        assert.deepEqual({ ...(await popped) }, { key: 'queue', element: 'element' });
        const subscriber = await open(ports[1], { RESP });
        const messages = [];
        let done;
        const end = new Promise((resolve) => (done = resolve));
        await subscriber.subscribe('news', (text) => messages.push(text) === 200 && done());
        for (let n = 0; n < 200; n += 1) await client.publish('news', String(n));
        await end;
        assert.deepEqual(messages, Array.from({ length: 200 }, (_, n) => String(n)));
        await subscriber.unsubscribe('news');
        // Bytes of RESP2, text of RESP3.
        assert.equal(String(await subscriber.ping()), 'PONG');
    });

    test(`databases, RESP${RESP}`, async () => {
        const [zero, one] = [await open(ports[1], { RESP }), await open(ports[1], { RESP, database: 1 })];
        await zero.set('apart', 'zero');
        await one.set('apart', 'one');
        await zero.select(1);
        assert.equal(await zero.get('apart'), 'one');
    });
}
