// The users of one database of campaigns. Passwords are asked for, never written down:
//   mongosh --username admin --authenticationDatabase admin db/users.js
// They are made in the database itself, which is where al-charge logs in by default.
const users = [
  {"user": "worker", "roles": ["readWrite"]},
  {"user": "reader", "roles": ["read"]}
];

const campaigns = db.getSiblingDB("al_charge");
for (const {user, roles} of users) {
  print(`password of ${user}:`);
  campaigns.createUser({user, roles, pwd: passwordPrompt()});
}
