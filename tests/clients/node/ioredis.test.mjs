// ioredis: its package has no tests. Every kind of command through its methods, with the answers that the server itself gives.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Redis from 'ioredis';
import { compare, emptyWith } from './compare.mjs';

const options = { host: '127.0.0.1', maxRetriesPerRequest: 1, lazyConnect: true };
const ports = [Number(process.env.REDIS_DIRECT), Number(process.env.REDIS_PORT)];
let direct;
let proxied;
const others = [];

async function open(port, more = {}) {
    const client = new Redis({ ...options, port, ...more });
    client.on('error', () => {});
    await client.connect();
    others.push(client);
    return client;
}

before(async () => {
    direct = await open(ports[0]);
    proxied = await open(ports[1]);
    emptyWith((client) => client.flushall());
});

after(() => others.forEach((client) => client.disconnect()));

const same = (name, steps) => test(name, () => compare(direct, proxied, steps));

same('strings', [
    (c) => c.set('s', 'value'),
    (c) => c.get('s'),
    (c) => c.getBuffer('s'),
    (c) => c.set('s', Buffer.from([0, 255, 13, 10]), 'EX', 100),
    (c) => c.getBuffer('s'),
    (c) => c.set('s', 'x', 'NX'),
    (c) => c.append('s', 'more'),
    (c) => c.strlen('s'),
    (c) => c.incr('n'),
    (c) => c.incrby('n', 41),
    (c) => c.incrbyfloat('f', 1.5),
    (c) => c.decr('n'),
    (c) => c.setrange('s', 2, 'abc'),
    (c) => c.getrange('s', 0, 3),
    (c) => c.getset('s', 'new'),
    (c) => c.getdel('s'),
    (c) => c.getex('n', 'PERSIST'),
    (c) => c.setbit('b', 7, 1),
    (c) => c.bitcount('b'),
    (c) => c.bitfield('b', 'INCRBY', 'u8', 0, 1),
    (c) => c.get('nothing'),
    (c) => c.incr('b'),
]);

same('several keys', [
    (c) => c.mset('a', '1', 'b', '2', 'c', '3'),
    (c) => c.mset(new Map([['d', '4']])),
    (c) => c.mget('a', 'nothing', 'c', 'a'),
    (c) => c.mgetBuffer('a', 'b'),
    (c) => c.exists('a', 'b', 'nothing'),
    (c) => c.touch('a', 'b'),
    (c) => c.del('a', 'nothing'),
    (c) => c.unlink('b', 'c'),
    (c) => c.msetnx('x', '1', 'y', '2'),
    (c) => c.msetnx('x', '3', 'z', '2'),
    (c) => c.rename('x', 'w'),
    (c) => c.renamenx('w', 'y'),
    (c) => c.copy('w', 'v'),
    (c) => c.type('w'),
    (c) => c.expireat('w', 4000000000),
    (c) => c.expiretime('w'),
    (c) => c.persist('w'),
    (c) => c.object('ENCODING', 'w'),
    (c) => c.dbsize(),
    (c) => c.keys('v*'),
    (c) => c.flushdb(),
    (c) => c.dbsize(),
]);

same('hashes, lists, sets and sorted sets', [
    (c) => c.hset('h', { one: '1', two: '2' }),
    (c) => c.hgetall('h'),
    (c) => c.hmget('h', 'one', 'nothing'),
    (c) => c.hincrby('h', 'one', 4),
    (c) => c.hdel('h', 'two'),
    (c) => c.hscan('h', 0),
    (c) => c.rpush('l', 'a', 'b', 'c'),
    (c) => c.lrange('l', 0, -1),
    (c) => c.lpop('l'),
    (c) => c.lmove('l', 'l2', 'LEFT', 'RIGHT'),
    (c) => c.rpoplpush('l', 'l2'),
    (c) => c.lpos('l2', 'c'),
    (c) => c.linsert('l2', 'BEFORE', 'c', 'x'),
    (c) => c.sadd('set', 1, 2, 3),
    (c) => c.sadd('set2', 2, 3, 4),
    (c) => c.sinter('set', 'set2'),
    (c) => c.sunion('set', 'set2'),
    (c) => c.sdiffstore('set3', 'set', 'set2'),
    (c) => c.smembers('set3'),
    (c) => c.smove('set', 'set2', 1),
    (c) => c.zadd('z', 1, 'one', 2.5, 'two', '+inf', 'three'),
    (c) => c.zrange('z', 0, -1, 'WITHSCORES'),
    (c) => c.zrangebyscore('z', '(1', '+inf'),
    (c) => c.zscore('z', 'two'),
    (c) => c.zincrby('z', 2, 'one'),
    (c) => c.zunionstore('z2', 2, 'z', 'z'),
    (c) => c.zpopmin('z2'),
    (c) => c.zmpop(2, 'z', 'z2', 'MAX'),
    (c) => c.geoadd('g', 13.361389, 38.115556, 'Palermo', 15.087269, 37.502669, 'Catania'),
    (c) => c.geodist('g', 'Palermo', 'Catania', 'km'),
    (c) => c.geosearch('g', 'FROMLONLAT', 15, 37, 'BYRADIUS', 200, 'km', 'ASC'),
    (c) => c.pfadd('p', 'a', 'b'),
    (c) => c.pfcount('p'),
    (c) => c.sort('set2', 'DESC'),
    (c) => c.lpush('set', 'x'),
]);

same('streams', [
    (c) => c.xadd('x', '1-1', 'field', 'value'),
    (c) => c.xadd('x', '1-2', 'field', 'more'),
    (c) => c.xlen('x'),
    (c) => c.xrange('x', '-', '+'),
    (c) => c.xread('COUNT', 1, 'STREAMS', 'x', '0'),
    (c) => c.xgroup('CREATE', 'x', 'g', '0'),
    (c) => c.xreadgroup('GROUP', 'g', 'me', 'COUNT', 1, 'STREAMS', 'x', '>'),
    (c) => c.xpending('x', 'g'),
    (c) => c.xack('x', 'g', '1-1'),
    (c) => c.xinfo('GROUPS', 'x'),
    (c) => c.xdel('x', '1-1'),
    (c) => c.xtrim('x', 'MAXLEN', 0),
]);

same('pipelines and transactions', [
    (c) => c.pipeline().set('a', 1).incr('a').get('a').lpush('a', 'x').exec().then(String),
    (c) => c.multi().set('a', 1).incr('a').get('a').exec(),
    (c) => c.multi().set('a', 'word').incr('a').exec().then(String),
    (c) => c.multi({ pipeline: false }).then(() => c.set('a', 5)).then(() => c.exec()),
    (c) => c.watch('a'),
    (c) => c.multi().get('a').exec(),
    (c) => c.multi({ pipeline: false }).then(() => c.discard()),
]);

same('scripts', [
    (c) => c.eval('return {KEYS[1], ARGV[1]}', 1, 'k', 'v'),
    (c) => c.eval('return redis.call("set", KEYS[1], ARGV[1])', 1, 'k', 'v'),
    (c) => c.script('LOAD', 'return 7'),
    (c) => c.evalsha('ffffffffffffffffffffffffffffffffffffffff', 1, 'k'),
    (c) => c.script('EXISTS', 'ffffffffffffffffffffffffffffffffffffffff'),
    // The first call has to fall back from EVALSHA to EVAL.
    (c) => {
        c.defineCommand('twice', { numberOfKeys: 1, lua: 'return {redis.call("incr", KEYS[1]), redis.call("incr", KEYS[1])}' });
        return c.twice('counter');
    },
    (c) => c.twice('counter'),
    (c) => c.eval('return 1', 0),
]);

same('wrong requests', [
    (c) => c.call('GET'),
    (c) => c.call('SET', 'a', 'b', 'BOGUS'),
    (c) => c.call('INCRBY', 'a', 'word'),
    (c) => c.call('ECHO', 'hello'),
    (c) => c.call('PING', 'hello'),
    (c) => c.ping(),
]);

test('databases are apart', async () => {
    const [zero, one] = [await open(ports[1]), await open(ports[1], { db: 1 })];
    await zero.set('apart', 'zero');
    await one.set('apart', 'one');
    assert.equal(await zero.get('apart'), 'zero');
    assert.equal(await one.get('apart'), 'one');
    await zero.select(1);
    assert.equal(await zero.get('apart'), 'one');
});

test('SCAN as a stream finds every key once', async () => {
    await direct.flushall();
    const wanted = new Set();
    const pipeline = proxied.pipeline();
    for (let n = 0; n < 2_000; n += 1) {
        wanted.add(`scan:${n}`);
        pipeline.set(`scan:${n}`, n);
    }
    await pipeline.exec();
    const found = new Set();
    for await (const keys of proxied.scanStream({ match: 'scan:*', count: 100 })) keys.forEach((key) => found.add(key));
    assert.deepEqual([...found].sort(), [...wanted].sort());
});

test('blocking commands are woken', async () => {
    const waiter = await open(ports[1]);
    const popped = waiter.blpop('queue', 10);
    await proxied.rpush('queue', 'element');
    assert.deepEqual(await popped, ['queue', 'element']);
    assert.equal(await waiter.blpop('queue', 0.05), null);
});

test('messages arrive in order', async () => {
    const subscriber = await open(ports[1]);
    await subscriber.subscribe('news', 'weather');
    await subscriber.psubscribe('pattern:*');
    const messages = [];
    const done = new Promise((resolve) => {
        subscriber.on('message', (channel, text) => messages.push([channel, text]));
        subscriber.on('pmessage', (pattern, channel, text) => {
            messages.push([pattern, channel, text]);
            resolve();
        });
    });
    for (let n = 0; n < 500; n += 1) await proxied.publish('news', String(n));
    await proxied.publish('pattern:1', 'end');
    await done;
    assert.equal(messages.length, 501);
    assert.deepEqual(messages[499], ['news', '499']);
    await subscriber.unsubscribe('news', 'weather');
    await subscriber.punsubscribe('pattern:*');
    assert.equal(await subscriber.ping(), 'PONG');
});

test('large values, and many requests at once', async () => {
    const large = Buffer.alloc(3_000_000, 'x');
    await proxied.set('large', large);
    assert.ok(large.equals(await proxied.getBuffer('large')));
    const all = Array.from({ length: 5_000 }, (_, n) => proxied.set(`many:${n}`, n).then(() => proxied.get(`many:${n}`)));
    assert.deepEqual(await Promise.all(all), Array.from({ length: 5_000 }, (_, n) => String(n)));
});

test('an automatic pipeline', async () => {
    const client = await open(ports[1], { enableAutoPipelining: true });
    const values = await Promise.all([client.set('auto', 1), client.incr('auto'), client.get('auto')]);
    assert.deepEqual(values, ['OK', 2, '2']);
});

test('INFO, which the ready check reads', async () => {
    const info = await proxied.info();
    assert.match(info, /redis_version:/);
    assert.match(info, /loading:0/);
});
