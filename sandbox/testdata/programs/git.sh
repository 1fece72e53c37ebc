set -e
export HOME=/tmp GIT_CONFIG_NOSYSTEM=1
cd /tmp
git -c init.defaultBranch=main init -q r
cd r
git config user.email a@example.com
git config user.name a
cp /src/text .
git add .
git commit -qm one
git clone -q . ../c
git -C ../c log --format=%s
git gc -q
git fsck 2>/dev/null
git -C ../c pull -q
echo pulled
