// `npm run standin`: the stand-in with two people and a document, for looking at the page by hand.
import { Standin } from './server.mjs';

const standin = await new Standin().listen(Number(process.env.PORT ?? 8008));
standin.addUser('@alice:standin.example', 'Alice');
standin.addUser('@bob:elsewhere.example', 'Bob');
const id = standin.addDocument('Minutes', 'text', '@alice:standin.example', { '@bob:elsewhere.example': {} });
console.log(`Alice: ${standin.link('@alice:standin.example', id)}`);
console.log(`Bob:   ${standin.link('@bob:elsewhere.example', id)}`);
